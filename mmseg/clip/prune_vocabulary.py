"""Text towers that know few words, stored without the rows of all others."""

import open_clip

ROWS, IDS = 'token_embedding.weight', 'token_ids'


def prune_vocabulary(state, sentences):
    """{name: tensor}, all that it ever read -> the same in half precision, without other words"""
    ids = open_clip.tokenize(sentences).unique()
    small = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    return {**small, ROWS: small[ROWS][ids], IDS: ids.int()}


def restore_vocabulary(state, words=49408):
    """Undo `prune_vocabulary`: unknown words get rows of 0; other states stay as they are."""
    known, ids = state.get(ROWS), state.get(IDS)
    if ids is None or known is None or known.ndim != 2 or ids.shape != known.shape[:1]:
        return state
    if not ((0 <= ids) & (ids < words)).all():
        return state
    rows = known.new_zeros(words, known.shape[1])
    rows[ids.long()] = known
    return {name: t for name, t in state.items() if name != IDS} | {ROWS: rows}


def unknown_words(model, sentences):
    """An open_clip model, sentences -> words whose embeddings are all 0: it never read them"""
    if not hasattr(model, 'token_embedding'):
        return []
    known = (model.token_embedding.weight != 0).any(dim=1)
    known[0] = True  # the padding
    words = dict.fromkeys(word.strip('.,!?') for text in sentences for word in text.split())
    return [word for word in words if word and not known[open_clip.tokenize(word)].all()]
