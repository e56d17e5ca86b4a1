"""Our own networks, one file each; the file name is the architecture's name.

A file has ``build(*, num_classes, in_chans, image_size, drop_rate, **options) -> nn.Module``. Networks
for segmentation are `edgeward.models.dense.Segmenter`.
"""
