"""DROID in RLDS: TFRecord files of `tf.train.Example` messages, read without TensorFlow."""
