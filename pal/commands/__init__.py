"""What the commands of `pal` do: tables in, tables out, row by row in bounded memory."""
