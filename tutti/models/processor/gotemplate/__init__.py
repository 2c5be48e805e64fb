"""Go's template language, in which Ollama's models say how they are prompted.

`gotpl` parses it; running it is ours. `gotpl`'s own virtual machine bounds loops and output, but neither how often
named templates call each other nor how large a text grows in a variable, so that forty short lines can take hours or
all memory. Here everything costs steps and signs of one budget (`execute`), and a value has fields only because
`values` gave it some: no name in a template is ever looked up on a Python object.

`gotpl` takes a third of a second to import: `syntax` and `execute` are imported where there is such a template.
"""
