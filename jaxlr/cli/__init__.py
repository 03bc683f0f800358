"""What the commands of the command line do: plain functions, whose results are told and written."""
