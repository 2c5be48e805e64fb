"""RoBERTa (Liu et al. 2019) and XLM-RoBERTa (Conneau et al. 2019): BGE-M3, multilingual E5, BGE's rerankers."""

from tutti.models.standard import embedding_graph, score_graph

GRAPHS = (
    embedding_graph(
        "roberta", "RobertaModel", "XLMRobertaModel", "RobertaForMaskedLM", "XLMRobertaForMaskedLM"
    ),
    score_graph("roberta", "RobertaForSequenceClassification", "XLMRobertaForSequenceClassification"),
)
