"""What the commands of ``ctgen`` do that is not a call of one library function: tables, texts, the plugins' own commands."""
