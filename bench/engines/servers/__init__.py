"""Search servers (Qdrant, Milvus, OpenSearch), embedded in this process or reached by URL."""
