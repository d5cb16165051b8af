"""LongCat-Video-Avatar: a speaking portrait, segment after segment. Pure torch, no ComfyUI."""
