"""The frozen CLIP: weights, towers, dense features, text. Knows nothing of mmengine."""

from .extractor import CLIPDenseExtractor, DenseFeatures
from .proxy import ProxyViT, load_proxy
from .text import embed_prompts, read_text_embeddings, text_embeddings, write_text_embeddings
from .weights import LoadedCLIP, fetched_names, load_clip

__all__ = [
    'CLIPDenseExtractor',
    'DenseFeatures',
    'LoadedCLIP',
    'ProxyViT',
    'embed_prompts',
    'fetched_names',
    'load_clip',
    'load_proxy',
    'read_text_embeddings',
    'text_embeddings',
    'write_text_embeddings',
]
