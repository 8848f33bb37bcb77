import hashlib

import torch


def digest_file(path):
    """File -> sha256 hex of its content"""
    sha = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def digest_state(module_or_state):
    """nn.Module or {name: tensor} -> sha256 hex of all names, dtypes, shapes and values."""
    state = module_or_state
    if hasattr(state, 'state_dict'):
        state = state.state_dict()
    sha = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        sha.update(f'{name} {tensor.dtype} {tuple(tensor.shape)};'.encode())
        sha.update(tensor.flatten().view(torch.uint8).numpy())
    return sha.hexdigest()
