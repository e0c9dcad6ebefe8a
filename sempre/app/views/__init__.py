"""The pages of the cockpit, one a file; Streamlit would take a folder `pages` for pages of its own."""
