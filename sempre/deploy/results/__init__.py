"""What is measured and drawn of a segmented micrograph."""
