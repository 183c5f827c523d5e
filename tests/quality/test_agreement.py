"""Agreement of two maps: by hand, and against SciPy."""

import pytest
import torch

from explainers import upsample
from quality import Evidence, RankCorrelation, TopOverlap
from tests.quality.toys import seen


def test_rank_correlation() -> None:
    """Ranks 1, 2.5, 2.5, 4 and 1 to 4, deviating by -1.5, 0, 0, 1.5 and -1.5, -.5, .5, 1.5: 4.5 / sqrt(4.5 * 5)."""
    evidence = seen([[0.0, 0.5], [0.5, 1.0]], other_maps=torch.tensor([[[0.0, 1.0], [7.0, 8.0]]]))
    assert float(RankCorrelation().values(evidence)) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)


@pytest.mark.oracle
def test_rank_correlation_agrees_with_scipy() -> None:
    """On many maps with and without equal cells."""
    stats = pytest.importorskip("scipy.stats")
    generator = torch.Generator().manual_seed(4)
    for kind in (
        torch.rand(12, 7, 7, generator=generator),
        torch.randint(0, 4, (12, 7, 7), generator=generator).float(),
    ):
        other = torch.randint(0, 9, (12, 7, 7), generator=generator).float()
        evidence = Evidence(torch.rand(12, 3, 14, 14), ((0,),) * 12, kind, other_maps=other)
        expected = [stats.spearmanr(a.flatten(), b.flatten())[0] for a, b in zip(kind, other, strict=True)]
        assert RankCorrelation().values(evidence).tolist() == pytest.approx(expected)


def test_top_overlap() -> None:
    """The highest 2 of 20 cells: {19, 18} and {19, 0} share 1 of 3; the highest single one is shared."""
    ours = torch.arange(20.0).view(1, 4, 5)
    theirs = ours.clone()
    theirs[0, 0, 0] = 18.5
    evidence = Evidence(torch.rand(1, 3, 4, 5), ((0,),), ours, other_maps=theirs)
    assert float(TopOverlap().values(evidence)) == pytest.approx(1 / 3)
    assert float(TopOverlap(share=0.05).values(evidence)) == 1
    assert float(TopOverlap(share=0.001).values(evidence)) == 1  # at least one


def test_maps_on_different_grids_are_compared_on_the_pixels() -> None:
    """A map and the same one enlarged agree entirely."""
    maps = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(1))
    evidence = Evidence(torch.rand(2, 3, 12, 16), ((0,), (0,)), maps, other_maps=upsample(maps, (12, 16)))
    assert RankCorrelation().values(evidence).tolist() == pytest.approx([1, 1], abs=1e-4)
    assert TopOverlap().values(evidence).tolist() == [1, 1]


def test_a_degenerate_rival() -> None:
    """A map that says nothing agrees with none."""
    evidence = seen([[0.0, 0.5], [0.5, 1.0]], other_maps=torch.ones(1, 2, 2))
    assert RankCorrelation().values(evidence).isnan().all()
    assert TopOverlap().values(evidence).isnan().all()
