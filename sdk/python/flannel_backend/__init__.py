"""What backends of flanneld in Python have in common: options and what peers publish, read with care, addresses, and errors that are answered in
words. The package has the contract beside it, in `wit`."""
