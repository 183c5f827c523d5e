"""Models that Whylight serves, and the manifest that turns them into archives."""
