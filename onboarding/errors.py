"""What can go wrong with `whylight model`. The messages are for the operator and may name files."""


class OnboardingError(Exception):
    """The command ends, and nothing was changed."""


class DownloadError(OnboardingError):
    """The library could not download its weights."""


class PreprocessingError(OnboardingError):
    """The preprocessing is not known, or not one that a manifest can say."""
