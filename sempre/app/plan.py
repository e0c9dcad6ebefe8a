import streamlit as st


def show() -> None:
    st.write("plan")
