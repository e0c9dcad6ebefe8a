"""Serve the cockpit to this machine's browser: `sempre app`."""

import argparse
import sys
from importlib import resources

from streamlit.web import cli

MOST_MB = 1024  # of an uploaded file
# All of it said here, so that no configuration in a user's home opens the cockpit to others.
SERVER = {
    "server.address": "localhost",
    "browser.serverAddress": "localhost",
    "server.headless": "true",
    "server.showEmailPrompt": "false",
    "server.enableCORS": "true",
    "server.enableXsrfProtection": "true",
    "server.fileWatcherType": "none",
    "server.maxUploadSize": str(MOST_MB),
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "full",
    "client.showErrorLinks": "false",
    "global.developmentMode": "false",
}


def arguments(port: int) -> list[str]:
    """What Streamlit's command line is given."""
    settings = {**SERVER, "server.port": str(port)}
    return ["run", str(resources.files("sempre.app") / "main.py"), *(f"--{key}={settings[key]}" for key in settings)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="sempre app")
    parser.add_argument("--port", type=int, default=8501)
    sys.argv = ["streamlit", *arguments(parser.parse_args().port)]
    cli.main()


if __name__ == "__main__":
    main()
