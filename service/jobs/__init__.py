"""Jobs: explanations that outlive the connection of the client who asked for them."""
