"""What steps have in common, for zlib to begin with: a short step is then smaller than the names in it.

It belongs to format 2 of `codec` and must never change: what was deflated with it is inflated with it. What is most frequent
stands last.
"""

__all__ = ["DICTIONARY"]

DICTIONARY = (
    b'"description":"","message":"","value":"","count":"name":"","id":"","title":"","url":"","score":0.0,"error":null,"status":"ok",'
    b'true,false,"tool_calls":[{"type":"function","function":{"name":"","arguments":"{\\"query\\":\\"\\"}"}}],"tool_call_id":"",'
    b'"role":"tool","content":""input":"","text":"","question":"","query":"","user_input":"","response":"","answer":"","output":"",'
    b'"result":"","role":"system","content":"{"response":null,"chat_history":null},{"reply":null},{"reply":0,"messages":1}],null,'
    b'[{"halt_after":["response"],"halt_before":[],"inputs":{"prompt":""},"max_steps":1},1,1,1,1,1,"halt_after"]]'
    b'[{},1,1,1,1,1,"transition_missing"]]"max_steps"]][["s","prompt",""],'
    b'["e","messages",[{"role":"user","content":"","type":"text"}]],["a","chat_history",{"role":"user","content":""}],["i","n",1],'
    b'["s","n",["a","history",{"role":"assistant","content":"'
)
