"""One training run of one network: loop, loss, optimizer, distillation."""
