-- The hits and last accesses of a node, for image-cachectl take-over: see docs/glance.md.
SELECT image_id, hits, last_accessed FROM cached_images JOIN node_reference USING (node_reference_id)
WHERE node_reference_url = 'http://node-1:9292';
