"""What several tests share: the loopback Hub, makers of small files, models and runs."""
