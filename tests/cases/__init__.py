"""The numbered cases that catch naive implementations, each over real sockets against the production gateway.

The numbers are those of the list of cases that the rules were designed against: `test_case_14_...` is
case 14. Cases that need a shared cache in front are not here.
"""
