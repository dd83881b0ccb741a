from __future__ import annotations

import torch

from depth_completion_ros.networks.padding import Padding


def test_a_size_that_fits_is_left_alone():
    x = torch.rand(1, 3, 32, 64)
    padding = Padding.to_multiple(32, 64, 32)
    assert padding == Padding(0, 0, 0)
    assert padding.extend(x) is x
    assert padding.extend_sparse(x) is x
    assert padding.crop(x) is x


def test_rows_are_added_at_the_top_and_columns_at_both_sides():
    x = torch.tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])[None, None]
    padding = Padding.to_multiple(3, 3, 5)
    assert padding == Padding(2, 1, 1)
    assert padding.extend(x)[0, 0].tolist() == [
        [1, 1, 2, 3, 3],
        [1, 1, 2, 3, 3],
        [1, 1, 2, 3, 3],
        [4, 4, 5, 6, 6],
        [7, 7, 8, 9, 9],
    ]
    sparse = padding.extend_sparse(x)
    assert sparse.sum() == x.sum()
    assert torch.equal(padding.crop(sparse), x)
