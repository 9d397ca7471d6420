"""What a serving spec may set of vLLM: how much it takes and how it answers.

Left out on purpose is what brings code, files or addresses from outside the version (plugins, classes by name,
tokenizers elsewhere, LoRA folders, transfer and event configurations, media paths), and what changes who can reach the
engine. A test holds every name and choice against the vLLM that is installed.
"""

from __future__ import annotations

from rollouts.domain.engine_options import Option, OptionKind

TOOL_PARSERS = (
    "apertus", "cohere_command3", "cohere_command4", "deepseek_v3", "deepseek_v31", "deepseek_v32",
    "deepseek_v4", "dots", "ernie45", "functiongemma", "gemma4", "gigachat3", "glm45", "glm47", "granite",
    "granite-20b-fc", "granite4", "hermes", "hunyuan_a13b", "internlm", "jamba", "kimi_k2", "lfm2",
    "llama3_json", "llama4_json", "llama4_pythonic", "longcat", "mimo", "minimax_m2", "minimax_m3", "mistral",
    "olmo3", "openai", "phi4_mini_json", "plamo3", "pythonic", "qwen3_coder", "qwen3_json", "qwen3_xml",
    "seed_oss", "step3", "step3p5", "xlam",
)  # fmt: skip
REASONING_PARSERS = (
    "cohere_command3", "cohere_command4", "deepseek_r1", "deepseek_v3", "deepseek_v4", "ernie45", "gemma4",
    "glm45", "glm47", "granite", "holo2", "hunyuan_a13b", "kimi_k2", "mimo", "minimax_m2",
    "minimax_m2_append_think", "minimax_m3", "mistral", "nemotron_v3", "olmo3", "openai_gptoss", "plamo3",
    "qwen3", "seed_oss", "step3", "step3p5",
)  # fmt: skip
QUANTIZATIONS = (
    "awq", "awq_marlin", "auto_awq", "auto_gptq", "compressed-tensors", "experts_int8", "fp8", "gptq",
    "gptq_marlin", "inc", "modelopt", "modelopt_fp4", "moe_wna16", "mxfp4", "gpt_oss_mxfp4", "quark",
)  # fmt: skip
ATTENTION_BACKENDS = (
    "CPU_ATTN", "CUTLASS_MLA", "FLASHINFER", "FLASHINFER_MLA", "FLASHMLA", "FLASH_ATTN", "FLASH_ATTN_MLA",
    "FLEX_ATTENTION", "ROCM_AITER_FA", "ROCM_ATTN", "TRITON_ATTN", "TRITON_MLA",
)  # fmt: skip
MANY = 1_000_000
TIB = 1 << 40


def _whole(name: str, help: str, least: int = 1, most: int = MANY) -> Option:
    return Option(name, OptionKind.INTEGER, help, least, most)


def _number(name: str, help: str, least: float, most: float) -> Option:
    return Option(name, OptionKind.NUMBER, help, least, most)


def _word(name: str, help: str, *choices: str) -> Option:
    return Option(name, OptionKind.WORD, help, choices=choices)


def _flag(name: str, help: str) -> Option:
    return Option(name, OptionKind.FLAG, help)


def _object(name: str, help: str, *fields: Option) -> Option:
    return Option(name, OptionKind.OBJECT, help, fields=fields)


MEMORY = (
    _whole("max-model-len", "Longest request, prompt and answer together, in tokens.", most=100 * MANY),
    _whole("max-num-seqs", "Requests that are computed at the same time.", most=100_000),
    _whole("max-num-batched-tokens", "Tokens that one step computes at most.", most=100 * MANY),
    _whole("max-num-queued-reqs", "Requests that may wait; further ones are refused with 503.", most=MANY),
    _number("gpu-memory-utilization", "Share of a GPU's memory that the engine takes.", 0.01, 1),
    Option("kv-cache-memory-bytes", OptionKind.SIZE, "Memory for the KV cache.", 1 << 20, 64 * TIB),
    _word("kv-cache-dtype", "Type of the numbers in the KV cache.",
          "auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2"),
    _whole("block-size", "Tokens in a block of the KV cache.", most=1024),
    _whole("num-gpu-blocks-override", "Blocks of the KV cache, instead of as many as fit.", most=100 * MANY),
    _number("cpu-offload-gb", "GiB of the weights that are kept in the machine's memory.", 0, 10_000),
    _flag("enable-prefix-caching", "Keeps the KV cache of prompts that begin alike."),
    _flag("enable-chunked-prefill", "Computes long prompts in parts between answers."),
)  # fmt: skip
COMPUTING = (
    _word("dtype", "Type of the weights while computing.",
          "auto", "bfloat16", "float", "float16", "float32", "half"),
    _word("quantization", "How the weights are quantized; left out: as the model's configuration says.",
          *QUANTIZATIONS),
    _word("load-format", "How the weights are stored.", "auto", "safetensors", "mistral"),
    _word("config-format", "Which configuration of the model is read.", "auto", "hf", "mistral"),
    _word("tokenizer-mode", "Which tokenizer of the model is used.", "auto", "hf", "mistral"),
    _word("runner", "What the model is run for.", "auto", "generate", "pooling"),
    _word("convert", "Turns a generating model into one for another task.", "auto", "none", "embed", "classify"),
    _whole("tensor-parallel-size", "GPUs over which every layer is spread.", most=64),
    _whole("pipeline-parallel-size", "GPUs over which the layers are dealt out.", most=64),
    _flag("enable-expert-parallel", "Spreads the experts of a mixture over the GPUs."),
    _flag("enforce-eager", "Computes without CUDA graphs and compilation: starts faster, answers slower."),
    _word("optimization-level", "How much is compiled before the engine is ready.", "0", "1", "2", "3"),
    _whole("max-cudagraph-capture-size", "Largest batch for which a CUDA graph is kept.", least=0, most=8192),
    _word("performance-mode", "What is made faster.", "balanced", "interactivity", "throughput"),
    _word("attention-backend", "Which kernels compute attention.", *ATTENTION_BACKENDS),
    _flag("async-scheduling", "Plans the next step while the GPU computes."),
    _word("scheduling-policy", "Who comes first: by arrival, or by the priority in the request.", "fcfs", "priority"),
    _object("speculative-config", "Guesses tokens from the prompt and checks several at once.",
            _word("method", "How tokens are guessed.", "ngram"),
            _whole("num_speculative_tokens", "Tokens guessed at a time.", most=64),
            _whole("prompt_lookup_max", "Longest run of tokens that is looked up.", most=64),
            _whole("prompt_lookup_min", "Shortest run of tokens that is looked up.", most=64)),
    _flag("disable-sliding-window", "Attends over the whole window although the model slides it."),
    _flag("disable-hybrid-kv-cache-manager", "Keeps the same KV cache for all kinds of layers."),
    _whole("seed", "Seed of everything drawn at random.", least=0, most=2**31 - 1),
)  # fmt: skip
ANSWERS = (
    Option("chat-template", OptionKind.FILE, "Template that turns messages into a prompt; a file of the version.",
           choices=(".jinja", ".jinja2")),
    _word("chat-template-content-format", "How the template gets the content of a message.",
          "auto", "openai", "string"),
    _object("default-chat-template-kwargs", "Variables of the chat template, where the request has none.",
            _flag("enable_thinking", "Lets the model think first (Qwen and others)."),
            _flag("thinking", "Lets the model think first (DeepSeek, Granite and others)."),
            _word("reasoning_effort", "How long the model may think.", "none", "low", "medium", "high")),
    _word("generation-config", "Defaults of sampling: of the model, or vLLM's own.", "auto", "vllm"),
    _object("override-generation-config", "Defaults of sampling, where the request has none.",
            _number("temperature", "Sampling temperature.", 0, 100),
            _number("top_p", "Probability mass that is sampled from.", 0, 1),
            _number("min_p", "Least probability relative to the likeliest token.", 0, 1),
            _whole("top_k", "Tokens that are sampled from; -1: all.", least=-1),
            _number("repetition_penalty", "Above 1: repeats less.", 0, 100),
            _whole("max_new_tokens", "Longest answer.", most=100 * MANY)),
    _flag("enable-auto-tool-choice", "Lets the model decide to call a tool; needs tool-call-parser."),
    _word("tool-call-parser", "How calls of tools are read from an answer.", *TOOL_PARSERS),
    _flag("exclude-tools-when-tool-choice-none", "Keeps tools out of the prompt for tool_choice none."),
    _word("reasoning-parser", "How thoughts are told from the answer.", *REASONING_PARSERS),
    _object("structured-outputs-config", "How answers are held to a schema.",
            _word("backend", "What holds them to it.",
                  "auto", "xgrammar", "guidance", "outlines", "lm-format-enforcer"),
            _flag("disable_any_whitespace", "Writes JSON without white space."),
            _flag("disable_additional_properties", "Allows only the properties that the schema names.")),
    _whole("max-logprobs", "Log probabilities that a request may ask for; -1: any number.", least=-1),
    _word("logprobs-mode", "Which log probabilities are given.",
          "raw_logprobs", "processed_logprobs", "raw_logits", "processed_logits"),
    _object("limit-mm-per-prompt", "How many images, videos and sounds a prompt may have.",
            _whole("image", "Images.", least=0, most=10_000),
            _whole("video", "Videos.", least=0, most=10_000),
            _whole("audio", "Sounds.", least=0, most=10_000)),
    _flag("language-model-only", "Loads only the language part of a multimodal model."),
    _number("mm-processor-cache-gb", "GiB for images and sounds that were prepared before.", 0, 1_000),
    _flag("enable-prompt-tokens-details", "Says how many tokens of the prompt were cached."),
    _flag("enable-force-include-usage", "Says the number of tokens at the end of every stream."),
    _whole("stream-interval", "Tokens in a piece of a stream.", most=10_000),
    _whole("shutdown-timeout", "Seconds that requests inside get to end when the engine stops.", least=0, most=3_600),
)  # fmt: skip

ARGUMENTS = (*MEMORY, *COMPUTING, *ANSWERS)

SWITCH = ("0", "1")
VARIABLES = (
    _word("VLLM_LOGGING_LEVEL", "How much the engine writes to its log.", "DEBUG", "INFO", "WARNING", "ERROR"),
    _whole("VLLM_LOG_STATS_INTERVAL", "Seconds between two lines of statistics in the log.", most=3_600),
    _whole("OMP_NUM_THREADS", "Threads of an engine on the CPU.", most=1_024),
    _whole("VLLM_CPU_KVCACHE_SPACE", "GiB for the KV cache of an engine on the CPU.", most=4_096),
    Option("VLLM_CPU_OMP_THREADS_BIND", OptionKind.TEXT, "Cores that an engine on the CPU runs on, such as 0-7.",
           pattern=r"auto|nobind|[0-9]+(-[0-9]+)?([,|][0-9]+(-[0-9]+)?)*"),
    _word("VLLM_USE_FLASHINFER_SAMPLER", "Samples with FlashInfer.", *SWITCH),
    _word("VLLM_USE_DEEP_GEMM", "Multiplies FP8 matrices with DeepGEMM.", *SWITCH),
    _word("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "Allows a max-model-len above what the model was made for.", *SWITCH),
    _whole("VLLM_IMAGE_FETCH_TIMEOUT", "Seconds that fetching an image may take.", most=600),
    _whole("VLLM_ENGINE_READY_TIMEOUT_S", "Seconds that the engine's parts may take to start.", most=86_400),
    _whole("VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS", "Seconds that one step may take.", most=86_400),
    _whole("VLLM_MAX_N_SEQUENCES", "Answers that one request may ask for (`n`).", most=MANY),
)  # fmt: skip
