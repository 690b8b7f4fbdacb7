"""Selling data without trusting anyone: seal, list, buy, reveal, dispute, settle, resell."""
