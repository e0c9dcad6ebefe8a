"""What the pages share: what a tab keeps, messages, pictures, and the work that buttons start."""
