"""What every example shares: data, batches, encoders, training, evaluation, report."""
