"""The parts of the chat environments; `rlhf.env` is the front.

world.py      what a conversation is made of: model, tokenizer, prompts, rewards, limits; making.py puts it together
opened.py     what a run folder gives of it;  worth.py: the rewards
talk.py       one conversation: its tokens, whose turn it is, what may follow
actions.py    a token, a whole reply, or how the language model shall reply: spaces, masks, meaning
reader.py     the language model's last hidden state of many conversations that grow
observing.py  what an agent sees: token ids, or those states
stage.py      many conversations, reset and stepped together: the one place where this is done
single.py     one of them as a gymnasium.Env;  vector.py: many as a gymnasium.vector.VectorEnv
rendering.py  the render modes;  spec.py: what Gymnasium notes of how they were made
"""
