"""Networks: initial weights, normalisers, heads, the encoder, actor and critic."""
