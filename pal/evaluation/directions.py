"""Embeddings on their leading directions: what is learned from few users needs no more, and costs far less.

Shapes used in this module:
    dim     width of an embedding
    width   directions kept
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pal.comparisons import Comparisons, Embeddings

ROWS_AT_ONCE = 1 << 16


def leading(embeddings: Embeddings, comparisons: Comparisons, width: int) -> Embeddings:
    """The tables in the directions along which what the comparisons point at is longest, answers unread.

    Nothing is centred, so that a linear map of what is left is a linear map of the whole.

    Args:
        embeddings: The tables; one no wider than `width` stays as it is.
        comparisons: What counts of them.
        width: Directions to keep of each table.
    """
    asked = comparisons.questions
    return Embeddings(
        _turned(embeddings.prompts, asked.prompt, width),
        _turned(embeddings.responses, torch.cat([asked.first, asked.second]), width),
    )


def _turned(
    table: Float[Tensor, "rows dim"], rows: Int[Tensor, " n"], width: int
) -> Float[Tensor, "rows width"]:
    if table.shape[1] <= width:
        return table
    square = torch.zeros(table.shape[1], table.shape[1], dtype=torch.float64, device=table.device)
    for some in torch.unique(rows[rows >= 0]).to(table.device).split(ROWS_AT_ONCE):
        x = table[some].float()
        square += (x.T @ x).double()
    directions = torch.linalg.eigh(square).eigenvectors[:, -width:].float()
    return torch.cat([block.float() @ directions for block in table.split(ROWS_AT_ONCE)])
