"""The config.json of public models (fields of no use here left out), and the sizes of their weights.

Llama 3.1 8B, Qwen 2.5 7B, DeepSeek V3 and Gemma 2 9B are as copies on the Hugging Face hub have them. Llama 3.1 405B,
Qwen 2.5 72B and Gemma 3 27B are gated or were not at hand: their numbers are those that other pages name.
"""

from __future__ import annotations

import json
from typing import Any

from registry.domain.manifest import Manifest, ManifestEntry

LLAMA_8B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "max_position_embeddings": 131072,
    "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
    "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                     "original_max_position_embeddings": 8192, "rope_type": "llama3"},
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "vocab_size": 128256,
}  # fmt: skip
LLAMA_8B_BYTES = 8_030_261_248 * 2  # parameters of two bytes each
LLAMA_405B: dict[str, Any] = LLAMA_8B | {
    "hidden_size": 16384,
    "num_attention_heads": 128,
    "num_hidden_layers": 126,
}
QWEN_25_7B: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"], "hidden_size": 3584, "max_position_embeddings": 32768,
    "max_window_layers": 28, "model_type": "qwen2", "num_attention_heads": 28, "num_hidden_layers": 28,
    "num_key_value_heads": 4, "sliding_window": None, "torch_dtype": "bfloat16", "use_sliding_window": False,
    "vocab_size": 152064,
}  # fmt: skip
QWEN_25_72B: dict[str, Any] = QWEN_25_7B | {
    "hidden_size": 8192, "max_window_layers": 70, "num_attention_heads": 64, "num_hidden_layers": 80,
    "num_key_value_heads": 8, "sliding_window": 131072,
}  # fmt: skip
DEEPSEEK_V3: dict[str, Any] = {
    "architectures": ["DeepseekV3ForCausalLM"], "hidden_size": 7168, "kv_lora_rank": 512,
    "max_position_embeddings": 163840, "model_type": "deepseek_v3", "num_attention_heads": 128,
    "num_hidden_layers": 61, "num_key_value_heads": 128, "num_nextn_predict_layers": 1, "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64, "quantization_config": {"quant_method": "fp8", "fmt": "e4m3"},
    "rope_scaling": {"type": "yarn", "factor": 40}, "torch_dtype": "bfloat16", "v_head_dim": 128,
}  # fmt: skip
GEMMA_2_9B: dict[str, Any] = {
    "architectures": ["Gemma2ForCausalLM"], "head_dim": 256, "hidden_size": 3584, "max_position_embeddings": 8192,
    "model_type": "gemma2", "num_attention_heads": 16, "num_hidden_layers": 42, "num_key_value_heads": 8,
    "sliding_window": 4096, "torch_dtype": "bfloat16",
}  # fmt: skip
GEMMA_3_27B: dict[str, Any] = {
    "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "torch_dtype": "bfloat16",
    "text_config": {
        "head_dim": 128, "hidden_size": 5376, "max_position_embeddings": 131072, "model_type": "gemma3_text",
        "num_attention_heads": 32, "num_hidden_layers": 62, "num_key_value_heads": 16,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024,
    },
}  # fmt: skip


def written(config: dict[str, Any], **changes: Any) -> bytes:
    """As the file's content. A change to None takes the field out."""
    changed = {**config, **changes}
    return json.dumps({name: value for name, value in changed.items() if value is not None}).encode()


def manifest_of(size: int = LLAMA_8B_BYTES) -> Manifest:
    return Manifest.of(
        [ManifestEntry("config.json", 855, "aa" * 32), ManifestEntry("model.safetensors", size, "bb" * 32)]
    )
