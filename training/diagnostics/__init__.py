"""What an encoder, or a world model, understands, and whether that is fit for planning: one report card."""
