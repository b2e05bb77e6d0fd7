"""Networks: initial weights, normalizers, heads, the encoder, actor and critic."""
