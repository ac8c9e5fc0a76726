"""Adapters on disk: reading, checking, writing.

An adapter is a small folder: ``adapter_config.json`` says what it is, ``adapter.safetensors`` holds its
tensors, ``head_config.json`` and ``model_head.safetensors`` its prediction head if it has one. The layout
and the names of tensors are those of the ``adapters`` library, so files travel both ways; pickled
``.bin`` files are read too, with ``weights_only=True``.

Two promises: a folder is replaced as a whole or not at all (:mod:`~adapterhub.checkpoints.atomic`),
and a model is changed only after every tensor's name and shape was found right
(:mod:`~adapterhub.checkpoints.layout`, :mod:`~adapterhub.checkpoints.adapters`,
:mod:`~adapterhub.checkpoints.fusions`). Folders of the PEFT library are read and written in
:mod:`~adapterhub.checkpoints.peft` and :mod:`~adapterhub.checkpoints.peft_export`.
"""
