"""Networks: initializers, normalizers, heads, the encoder, actor and critic."""
