"""Train only the rows of a word embedding that the training texts use.

Most of a small encoder is its table of 30,522 word pieces, of which a task uses a third or less. The other rows have
no gradient; updating them, clearing their gradients and taking their norm costs more than the rest of a small model,
and weight decay, which is all that happens to them, would only shrink what the encoder knows of words to come.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from bebert_export.data.batches import EncodedExamples
from bebert_export.student.layers import QuantEmbedding


@contextmanager
def sparse_embeddings(model: nn.Module, *encoded: EncodedExamples) -> Iterator[None]:
    """Inside, the word tables of `model` have only the rows that occur in `encoded`, and row 0 (padding) first.

    Other texts must not be shown to the model inside.

    Token ids stay what they are: a hook on each table finds their place. At the end, also after an error, the trained
    rows are back in the full tables, which are the same parameters as before. All rows stay where a quantizer looks
    at the whole table (BiT's).
    """
    tables = [
        module
        for name, module in model.named_modules()
        if name.rpartition(".")[2].startswith("word_embeddings") and isinstance(module, nn.Embedding | QuantEmbedding)
    ]
    if not tables or any(_sees_whole_table(table) for table in tables):
        yield
        return
    used = torch.from_numpy(
        np.unique(np.concatenate([np.zeros(1, np.int64), *(row for texts in encoded for row in texts.ids)]))
    )
    places = torch.zeros(len(tables[0].weight), dtype=torch.int64)
    places[used] = torch.arange(len(used))
    full = [table.weight for table in tables]
    hooks = [table.register_forward_pre_hook(lambda _, ids: places.to(ids[0].device)[ids[0]]) for table in tables]
    for table, weight in zip(tables, full, strict=True):
        table.weight = nn.Parameter(weight.detach()[used])
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for table, weight in zip(tables, full, strict=True):
            with torch.no_grad():
                weight[used] = table.weight.detach().to(weight.device)
            table.weight = weight


def _sees_whole_table(table: nn.Embedding | QuantEmbedding) -> bool:
    if isinstance(table, nn.Embedding):
        return table.padding_idx not in (None, 0)  # its row would get another place
    return table.weight_quantizer is not None and table.weight_quantizer.whole_table
