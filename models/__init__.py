"""Who answers: providers of models and the one caller that every model call goes through."""
