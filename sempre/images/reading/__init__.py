"""Reading files of micrographs, volumes and labels, safely, with the size of their pixels."""
