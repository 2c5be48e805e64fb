"""BERT (Devlin et al. 2018) and what was made of it: MiniLM, BGE, E5, GTE, cross-encoders."""

from tutti.models.standard import embedding_graph, score_graph

GRAPHS = (
    embedding_graph("bert", "BertModel", "BertForMaskedLM", "BertForPreTraining"),
    score_graph("bert", "BertForSequenceClassification"),
)
