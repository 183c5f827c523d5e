"""Which explanations are measured."""

import random
import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from service.cli import app
from service.parts import policy_of
from service.sampling.policy import Policy, PolicyError, Rule, load_policy
from service.settings import Settings

RULES = Policy(
    rules=(
        Rule(model="a", method="grad_cam", share=0),
        Rule(model="a", share=1, below_confidence=0.5, steps=0),
        Rule(method="cam", share=1, steps=7),
        Rule(share=0.25),
    )
)


def drawn(policy: Policy, model: str, method: str, confidence: float = 0.4, times: int = 200) -> list[Rule]:
    chance = random.Random(0)
    found = [policy.draw(model, method, confidence, chance) for _ in range(times)]
    return [rule for rule in found if rule is not None]


@pytest.mark.parametrize(
    ("model", "method", "rule"),
    [("a", "tibav", 1), ("a", "cam", 1), ("b", "cam", 2)],
)
def test_the_first_rule_that_covers_decides(model: str, method: str, rule: int) -> None:
    """By name or wildcard; with share 1 always, and later rules have no say."""
    assert drawn(RULES, model, method) == [RULES.rules[rule]] * 200


def test_a_share_of_zero_is_never_drawn() -> None:
    """Also not by a later rule that covers it too."""
    assert drawn(RULES, "a", "grad_cam") == []
    assert drawn(Policy(), "a", "grad_cam") == []


def test_a_share_in_between() -> None:
    """About as often as it says: of 4000 with 0.25, within five standard deviations."""
    found = len(drawn(RULES, "b", "tibav", times=4000))
    assert abs(found - 1000) < 5 * (4000 * 0.25 * 0.75) ** 0.5


def test_only_unsure_predictions() -> None:
    """At the limit still, above it never: the rule decides, so the last one is not asked."""
    assert len(drawn(RULES, "a", "tibav", confidence=0.5)) == 200
    assert drawn(RULES, "a", "tibav", confidence=0.5001) == []
    assert len(drawn(RULES, "b", "cam", confidence=1.0)) == 200


def test_a_policy_may_measure_nothing() -> None:
    """Without rules, or with shares of 0 only: then no workers are started for it."""
    assert not Policy().measures_anything
    assert not Policy(rules=(Rule(share=0), Rule(model="a", share=0))).measures_anything
    assert RULES.measures_anything


@pytest.mark.parametrize(
    "wrong",
    [{"share": -0.1}, {"share": 1.1}, {"share": float("nan")}, {}, {"share": 1, "steps": 225}, {"share": 1, "step": 1}],
)
def test_rules_have_bounds(wrong: dict[str, float]) -> None:
    """A share is needed and is one, and unknown keys are mistakes."""
    with pytest.raises(ValidationError):
        Rule(**wrong)  # type: ignore[arg-type]


def test_a_file(tmp_path: Path) -> None:
    """Tables in their order, with the same defaults."""
    path = tmp_path / "policy.toml"
    path.write_text('[[rules]]\nmodel = "a"\nshare = 1\n[[rules]]\nmethod = "cam"\nshare = 0.5\nsteps = 8\n')
    assert load_policy(path) == Policy(rules=(Rule(model="a", share=1.0), Rule(method="cam", share=0.5, steps=8)))


def test_the_documentations_example(tmp_path: Path) -> None:
    """The file in docs/quality.md says what the text around it says."""
    text = (Path(__file__).resolve().parents[3] / "docs" / "quality.md").read_text()
    example = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    assert example is not None
    path = tmp_path / "policy.toml"
    path.write_text(example.group(1))
    policy = load_policy(path)
    assert drawn(policy, "digits-cnn", "opti_cam") == []
    assert [rule.steps for rule in drawn(policy, "digits-cnn", "cam", confidence=0.6, times=1)] == [56]
    assert drawn(policy, "digits-cnn", "cam", confidence=0.61) == []
    assert 0 < len(drawn(policy, "digits-vit", "tibav", confidence=1.0, times=4000)) < 100


BAD = [
    (b"[[rules]", "policy.toml is not TOML"),
    (b"\xff\xfe", "policy.toml is not TOML"),
    (b'[[rules]]\nmodel = "a"\n', "policy.toml: rules.0.share: "),
    (b"[[rules]]\nshare = 1\n[[rules]]\nshare = 2\n", "policy.toml: rules.1.share: "),
    (b"[[rules]]\nshare = 1\nmodle = 1\n", "policy.toml: rules.0.modle: "),
    (b"rule = 1\n", "policy.toml: rule: "),
    (None, "no sampling policy at "),
]


def test_the_settings_make_a_policy(tmp_path: Path) -> None:
    """One rule of the two settings, none of which measures anything by default; a file takes their place."""
    assert not policy_of(Settings(_env_file=None)).measures_anything  # type: ignore[call-arg]
    given = {"quality_share": 0.5, "quality_below_confidence": 0.25}
    plain = Settings(_env_file=None, **given)  # type: ignore[call-arg, arg-type]
    assert policy_of(plain) == Policy(rules=(Rule(share=0.5, below_confidence=0.25),))
    path = tmp_path / "policy.toml"
    path.write_text("[[rules]]\nshare = 1\n")
    both = Settings(_env_file=None, quality_policy=path, **given)  # type: ignore[call-arg, arg-type]
    assert policy_of(both) == Policy(rules=(Rule(share=1),))


@pytest.mark.parametrize(("content", "message"), BAD)
def test_errors_of_a_file_are_one_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    """What is wrong and where, for the person who wrote it."""
    path = tmp_path / "policy.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("content", "message"), BAD)
def test_the_service_does_not_start_with_a_bad_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, message: str
) -> None:
    """`whylight serve` ends with 1 and the sentence, before any worker is started."""
    path = tmp_path / "policy.toml"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("WHYLIGHT_QUALITY_POLICY", str(path))
    monkeypatch.setenv("COLUMNS", "500")
    done = CliRunner().invoke(app, ["serve", "--port", "0", "--metrics-port", "0"])
    assert done.exit_code == 1
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1
    assert isinstance(done.exception, SystemExit)
