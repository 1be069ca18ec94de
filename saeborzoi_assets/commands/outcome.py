"""How a run of the pipeline ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from saeborzoi_resources.upkeep.advice import Advice

if TYPE_CHECKING:
    from saeborzoi_assets.commands.launch import FailedCheck


@dataclass
class Outcome:
    """How a run of the pipeline ended.

    Attributes
    ----------
    made
        Owner, step and seconds of everything that was made.
    failures
        Owner, step and reason of what failed.
    failed_checks
        Owner and asset checks that did not pass.
    advice
        What a careful colleague would say of the SAEs.
    is_stopped
        Whether it was asked to stop before its end.
    """

    made: list[tuple[str, str, float]] = field(default_factory=list)
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    failed_checks: list[tuple[str, FailedCheck]] = field(default_factory=list)
    advice: list[Advice] = field(default_factory=list)
    is_stopped: bool = False

    @property
    def exit_code(self) -> int:
        """0; 1 where an asset check did not pass; 2 where something failed; 130 where stopped."""
        if self.is_stopped:
            return 130
        return 2 if self.failures else 1 if self.failed_checks else 0

    def lines(self) -> list[str]:
        """What a person wants to know at the end."""
        lines = [f"FAILED  {owner}, {step}: {reason}" for owner, step, reason in self.failures]
        lines += [
            f"check   {owner}: {check.asset}, {check.check} does not hold ({_figures(check)})"
            for owner, check in self.failed_checks
        ]
        lines += [f"note    {about}: {text}" for about, text in self.advice]
        if self.is_stopped:
            lines.append(
                "stopped: what is complete is kept, a training goes on from its saved state; go on "
                "with the same command"
            )
        elif self.failures:
            lines.append(
                "Earlier results are untouched; fix it and run the same command: it makes only "
                "what is missing"
            )
        return lines

    def document(self) -> dict[str, Any]:
        """The same for a program."""
        return {
            "exit_code": self.exit_code,
            "made": [dict(zip(("owner", "step", "seconds"), m, strict=True)) for m in self.made],
            "failures": [
                dict(zip(("owner", "step", "reason"), f, strict=True)) for f in self.failures
            ],
            "failed_checks": [{"owner": o, **check._asdict()} for o, check in self.failed_checks],
            "advice": [each._asdict() for each in self.advice],
            "is_stopped": self.is_stopped,
        }


def _figures(check: FailedCheck) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in check.figures.items()
    )
