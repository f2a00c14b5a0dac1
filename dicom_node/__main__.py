"""`python -m dicom_node`: the command `fullfield`, for those who cannot rely on its script being on the path."""

from dicom_node.commands.main import main

if __name__ == "__main__":
    main()
