"""Pure translators between what clients, the gateway and backends say. Bytes in, bytes out."""
