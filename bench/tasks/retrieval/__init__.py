"""Parts of the retrieval task: settings, one direction, qrels of COCO, examples."""
