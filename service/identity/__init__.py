"""Who calls, what they may do, how precisely they are answered, and how often: one question a file."""
