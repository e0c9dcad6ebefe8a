"""The script that Streamlit runs: the pages, and what is kept from page to page."""

import streamlit as st

from sempre.app import find_page as find
from sempre.app import plan_page as plan
from sempre.app import runs_page as runs
from sempre.app import segment_page as segment
from sempre.app import session_page as session
from sempre.app.kept import keep_values

st.set_page_config(page_title="sempre", layout="wide")
keep_values()
# Without icons: Streamlit would fetch that of a page from the web for the tab of the browser.
st.navigation(
    [
        st.Page(segment.show, title="Segment", url_path="segment", default=True),
        st.Page(find.show, title="Find", url_path="find"),
        st.Page(plan.show, title="Plan", url_path="plan"),
        st.Page(runs.show, title="Runs", url_path="runs"),
        st.Page(session.show, title="Session", url_path="session"),
    ],
    position="top",
).run()
