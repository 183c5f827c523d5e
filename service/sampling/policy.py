"""Which explanations are measured."""

import random
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class PolicyError(ValueError):
    """The policy file cannot be used. The message is for the person who wrote it."""


class Rule(BaseModel):
    """What to measure of the explanations of some models by some methods."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "*"
    """Name of a model, or * for every one."""

    method: str = "*"
    """Name of a method, or * for every one."""

    share: float = Field(ge=0, le=1)
    """Which share of them to measure, drawn by chance."""

    below_confidence: float = Field(default=1.0, ge=0, le=1)
    """Only where the predicted class has at most this probability."""

    steps: int = Field(default=28, ge=0, le=224)
    """Steps of insertion and deletion, which take as many forward passes each; 0 leaves them out."""

    def covers(self, model: str, method: str) -> bool:
        """Whether the rule speaks of this model and method."""
        return self.model in ("*", model) and self.method in ("*", method)


class Policy(BaseModel):
    """Rules in order: the first one that covers a model and a method decides; what no rule covers is not measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: tuple[Rule, ...] = ()

    @property
    def measures_anything(self) -> bool:
        """Whether any explanation can be drawn."""
        return any(rule.share > 0 for rule in self.rules)

    def draw(self, model: str, method: str, confidence: float, chance: random.Random) -> Rule | None:
        """The rule by which to measure this explanation, or None where it is not drawn."""
        rule = next((rule for rule in self.rules if rule.covers(model, method)), None)
        if rule is None or confidence > rule.below_confidence:
            return None
        return rule if chance.random() < rule.share else None


def load_policy(path: Path) -> Policy:
    """Read `[[rules]]` tables from a TOML file.

    Raises:
        PolicyError: there is no such file, or a key is unknown or has a wrong value.
    """
    try:
        return Policy.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError:
        raise PolicyError(f"no sampling policy at {path}") from None
    except UnicodeDecodeError:
        raise PolicyError(f"{path.name} is not TOML: it is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{path.name} is not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise PolicyError(f"{path.name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
