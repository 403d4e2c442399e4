-- Moves the rows of cache.db to Glance's database, if that is an SQLite database: see docs/glance.md.
ATTACH '/var/lib/glance/image-cache/cache.db' AS cache;
INSERT OR IGNORE INTO node_reference (node_reference_url) VALUES ('http://node-1:9292');
INSERT OR IGNORE INTO cached_images (image_id, last_accessed, last_modified, size, hits, node_reference_id)
SELECT image_id,
       datetime(CAST(last_accessed AS INTEGER), 'unixepoch') || printf('.%06d', (last_accessed - CAST(last_accessed AS INTEGER)) * 1000000),
       datetime(CAST(last_modified AS INTEGER), 'unixepoch'), size, hits,
       (SELECT node_reference_id FROM node_reference WHERE node_reference_url = 'http://node-1:9292')
FROM cache.cached_images;
