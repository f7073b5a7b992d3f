"""What is run to be measured, beside the product itself and nginx."""
