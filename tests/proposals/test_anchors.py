import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from rcnnkit.proposals.anchors import cell_anchors, grid_anchors


def test_cells_by_hand() -> None:
    # side 32; ratio 1/2: 45.25 × 22.63, halves 22.63 and 11.31; ratio 2 the other way round
    expected = torch.tensor([[-23.0, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]])
    torch.testing.assert_close(cell_anchors([32], [0.5, 1, 2]), expected)


def test_ratio_comes_first() -> None:
    cells = cell_anchors([8, 16], [0.5, 2])
    wide = cells[:, 2] > cells[:, 3]
    assert wide.tolist() == [True, True, False, False]
    assert cells[1, 2] > cells[0, 2]


def test_grid_by_hand() -> None:
    cells = torch.tensor([[-2.0, -1, 2, 1]])
    grid = grid_anchors(cells, (2, 3), (32, 48))
    x, y = torch.tensor([0.0, 16, 32, 0, 16, 32]), torch.tensor([0.0, 0, 0, 16, 16, 16])
    torch.testing.assert_close(grid, torch.stack([x - 2, y - 1, x + 2, y + 1], dim=1))


def test_grid_is_torchvisions_also_where_the_stride_does_not_divide() -> None:
    sizes, ratios = [[32, 64], [128, 256]], (0.5, 1.0, 2.0)
    pixels = torch.zeros(1, 3, 224, 352)
    maps = [torch.zeros(1, 8, 14, 22), torch.zeros(1, 8, 4, 6)]  # 224 // 4 = 56 and 352 // 6 = 58
    theirs = AnchorGenerator(tuple(map(tuple, sizes)), (ratios,) * 2)(ImageList(pixels, [(224, 352)]), maps)[0]
    ours = [
        grid_anchors(cell_anchors(s, ratios), (m.shape[2], m.shape[3]), (224, 352))
        for s, m in zip(sizes, maps, strict=True)
    ]
    torch.testing.assert_close(torch.cat(ours), theirs)


def test_detectron2s_are_neither_rounded_nor_moved_by_the_padding() -> None:
    # side 32, ratio 1/2: 32 / √½ = 45.2548 wide, 22.6274 high
    (cell,) = cell_anchors([32], [0.5], whole=False)
    torch.testing.assert_close(cell, torch.tensor([-22.6274, -11.3137, 22.6274, 11.3137]))
    # 801 pixels are 51 cells of a C4 map, and 801 // 51 would be 15
    grid = grid_anchors(torch.zeros(1, 4), (51, 2), (801, 32), stride=16).reshape(51, 2, 4)
    assert grid[:, 0, 1].tolist() == [16 * i for i in range(51)]
    assert grid[0, :, 0].tolist() == [0, 16]
