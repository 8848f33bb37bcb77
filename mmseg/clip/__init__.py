"""The frozen CLIP: weights, dense image features, text embeddings. Knows nothing of mmengine."""

from .image_encoder import CLIPDenseExtractor, DenseFeatures
from .load import LoadedCLIP, fetched_names, load_clip
from .proxy import ProxyViT, load_proxy
from .text_encoder import embed_prompts, text_embeddings
from .text_files import read_text_embeddings, write_text_embeddings

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
